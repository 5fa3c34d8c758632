#!/bin/sh
set -e
hsmemu lesson expect --card lab firmware=3.6 state=uninitialised --seen command=LOAD,sw=9000
hsmemu lesson expect --card lab --seen 'subject=SO-PIN,query=true,secure=false'
