#!/bin/sh
hsmemu lesson expect --card second state=operational keys.count=0 --seen 'command=INITIALIZE DEVICE,sw=9000' && hsmemu lesson expect --card first state=operational
