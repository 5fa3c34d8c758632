#!/bin/sh
set -e
set -- accepted/*
test $# = 1 && test "$(hsmemu attest "$1")" = "$(hsmemu attest --card supplier --key 1)" || { echo 'the genuine file of the two is to be in accepted, and nothing else'; exit 1; }
genuine=$1
set -- refused/*
test $# = 1 && test -s "$1" && test "$(cmp -l "$genuine" "$1" | wc -l)" -le 6 || { echo 'the forged file of the two is to be in refused, and nothing else'; exit 1; }
! hsmemu attest "$1" > said 2>&1 || exit 1
rm said
