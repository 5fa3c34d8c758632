#!/bin/sh
set -e
hsmemu card new lab --firmware 3.4 --serial DENK0404144
