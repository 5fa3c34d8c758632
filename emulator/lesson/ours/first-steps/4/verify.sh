#!/bin/sh
set -e
hsmemu lesson expect --card lab --seen command=SIGN,sw=9000
openssl dgst -sha256 -verify public.der -keyform DER -signature order.sig order
