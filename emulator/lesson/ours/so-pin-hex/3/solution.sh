#!/bin/sh
pkcs11-tool --login --login-type so --so-pin 3537363231383830 --change-pin --new-pin 0123456789ABCDEF
