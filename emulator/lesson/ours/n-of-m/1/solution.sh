#!/bin/sh
yes '' | sc-hsm-tool --create-dkek-share dkek.pbe --pwd-shares-threshold 2 --pwd-shares-total 3 > shown
