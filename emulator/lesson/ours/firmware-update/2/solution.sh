#!/bin/sh
hsmemu card insert lab
opensc-tool --card-driver default --send-apdu 00A4040C0BE82B0601040181C31F0201
