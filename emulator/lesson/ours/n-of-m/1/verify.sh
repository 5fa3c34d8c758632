#!/bin/sh
set -e
hsmemu lesson expect --card alice --seen 'command=GET CHALLENGE,sw=9000'
for number in 1 2 3; do
    grep -aq "Share $number of 3" shown || { echo 'shown does not have three parts'; exit 1; }
done
test "$(grep -a '^Share value' shown | sort -u | wc -l)" -eq 3 || { echo 'shown does not have three parts'; exit 1; }
test "$(wc -c < dkek.pbe)" -eq 64 && test "$(head -c 8 dkek.pbe)" = Salted__ || { echo 'dkek.pbe is not a share'; exit 1; }
