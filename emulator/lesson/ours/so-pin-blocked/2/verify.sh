#!/bin/sh
hsmemu lesson expect --card spare keys.count=1 firmware=3.4 --seen 'command=GENERAL AUTHENTICATE'
