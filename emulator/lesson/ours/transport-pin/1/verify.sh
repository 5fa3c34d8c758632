#!/bin/sh
set -e
hsmemu lesson expect --card first --seen 'subject=transport PIN,query=true'
hsmemu lesson expect --card second --seen 'subject=user PIN,query=true'
