#!/bin/sh
hsmemu lesson expect --card lab firmware=3.6 state=uninitialised
