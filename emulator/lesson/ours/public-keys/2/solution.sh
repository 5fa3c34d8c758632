#!/bin/sh
for custodian in carla dora emil; do sc-hsm-tool --register-public-key $custodian.pka; done
