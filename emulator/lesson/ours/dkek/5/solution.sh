#!/bin/sh
sc-hsm-tool --reader 1 --import-dkek-share two.pbe --password second
sc-hsm-tool --reader 1 --unwrap-key signing.wrap --key-reference 1 --pin 648219 --force
