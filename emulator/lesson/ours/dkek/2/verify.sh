#!/bin/sh
hsmemu lesson expect --card alice key_domains.*.missing=0 && test -s one.pbe && test -s two.pbe
