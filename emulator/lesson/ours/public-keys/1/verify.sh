#!/bin/sh
set -e
hsmemu lesson expect --card vault public_key_authentication.required=2 public_key_authentication.total=3
HSMEMU_SO_PIN=3537363231383830 hsmemu lesson expect --card vault --takes so-pin
