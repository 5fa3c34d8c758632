#!/bin/sh
pkcs11-tool --login --login-type so --so-pin 3537363231383830 --init-pin --new-pin 648219
