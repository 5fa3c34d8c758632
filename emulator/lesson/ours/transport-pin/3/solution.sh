#!/bin/sh
sc-hsm-tool --reader 1 --initialize --so-pin 3537363231383830 --pin 648219
