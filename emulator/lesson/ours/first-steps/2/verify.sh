#!/bin/sh
set -e
hsmemu lesson expect --card lab state=operational
HSMEMU_PIN=648219 hsmemu lesson expect --card lab --takes user-pin
HSMEMU_SO_PIN=3537363231383830 hsmemu lesson expect --card lab --takes so-pin
