#!/bin/sh
set -e
hsmemu card new lab --like so=15,user=3,options=0001
