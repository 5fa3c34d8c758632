#!/bin/sh
so=$(printf 57621880 | od -An -tx1 | tr -d ' ')
pkcs11-tool --login --login-type so --so-pin "$so" --init-pin --new-pin 135790
