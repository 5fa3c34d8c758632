#!/bin/sh
hsmemu lesson expect --card lab --seen 'command=CHANGE REFERENCE DATA,subject=SO-PIN,sw=9000'
