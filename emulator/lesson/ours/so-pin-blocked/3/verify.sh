#!/bin/sh
hsmemu lesson expect --card lab state=uninitialised serial!=DENK0404144 keys.count=0
