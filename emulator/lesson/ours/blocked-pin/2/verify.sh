#!/bin/sh
hsmemu lesson expect --card lab user_pin.state=blocked --kept keys.*.label=wages --seen 'subject=user PIN,query=false,sent=6,sw=6983'
