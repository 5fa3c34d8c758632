#!/bin/sh
sed -n 's/^Prime *: //p' shown | head -n 1 > typed
echo >> typed
grep -a -A 5 'Share [13] of 3' shown | sed -n 's/^Share ID *: //p; s/^Share value *: \(.*\)/\1\n/p' >> typed
sc-hsm-tool --import-dkek-share dkek.pbe --pwd-shares-total 2 < typed
