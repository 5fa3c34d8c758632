#!/bin/sh
pkcs11-tool --login --login-type so --so-pin "$(cat envelope)" --init-pin --new-pin 135790
