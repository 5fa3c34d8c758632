#!/bin/sh
sc-hsm-tool --reader 0 --create-dkek-share one.pbe --password first &
sc-hsm-tool --reader 0 --create-dkek-share two.pbe --password second &
wait
sc-hsm-tool --reader 0 --import-dkek-share one.pbe --password first
sc-hsm-tool --reader 0 --import-dkek-share two.pbe --password second
