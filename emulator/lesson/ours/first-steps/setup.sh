#!/bin/sh
set -e
hsmemu card new lab
echo 'pay 100 to Alice' > order
