#!/bin/sh
test -s shown && grep -aq 'Share 3 of 3' shown && test -s dkek.pbe && hsmemu lesson expect --card alice --seen 'command=GET CHALLENGE,sw=9000'
