#!/bin/sh
hsmemu apdu --card first --select "002400810C$(printf 123456648219 | od -An -tx1 | tr -d ' ')"
