#!/bin/sh
set -e
hsmemu lesson expect --card alice 'key_domains.*.shares=2,missing=2'
HSMEMU_PIN=648219 hsmemu lesson expect --card alice --takes user-pin
HSMEMU_SO_PIN=3537363231383830 hsmemu lesson expect --card alice --takes so-pin
