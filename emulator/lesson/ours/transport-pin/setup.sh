#!/bin/sh
set -e
init=805000001980020002810631323334353682083537363231383830910103
for card in first second
do
    hsmemu card new $card
    hsmemu apdu --card $card --select $init
done
hsmemu apdu --card second --select 002400810C313233343536313131313131
hsmemu exec --card second -- pkcs11-tool --login --pin 111111 --keypairgen --key-type EC:secp256r1 --id 66 --label stranger
