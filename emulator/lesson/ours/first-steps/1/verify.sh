#!/bin/sh
hsmemu lesson expect --card lab --seen 'subject=SO-PIN,query=true'
