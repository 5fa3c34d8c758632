#!/bin/sh
sc-hsm-tool --reader 1 --initialize --so-pin 3537363231383830 --pin 648219 --dkek-shares 2
sc-hsm-tool --reader 1 --import-dkek-share one.pbe --password first
sc-hsm-tool --reader 1 --unwrap-key signing.wrap --key-reference 1 --pin 648219 --force; true
