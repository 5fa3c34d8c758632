#!/bin/sh
set -e
hsmemu card new alice
hsmemu exec --card alice -- sc-hsm-tool --initialize --so-pin 3537363231383830 --pin 648219 --dkek-shares 1
