#!/bin/sh
hsmemu lesson expect --card vault --seen 'command=EXTERNAL AUTHENTICATE,subject=DENK0404181*,sw=9000' && hsmemu lesson expect --card vault --seen 'command=EXTERNAL AUTHENTICATE,subject=DENK0404183*,sw=9000'
