#!/bin/sh
sc-hsm-tool --reader 0 --initialize --so-pin 0000000000000000 --pin 648219; true
