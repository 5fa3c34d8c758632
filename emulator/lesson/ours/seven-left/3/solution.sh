#!/bin/sh
sc-hsm-tool --initialize --so-pin 0000000000000000 --pin 648219; true
