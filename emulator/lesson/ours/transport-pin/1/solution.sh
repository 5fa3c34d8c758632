#!/bin/sh
sc-hsm-tool --reader 0
sc-hsm-tool --reader 1
