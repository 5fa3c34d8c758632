#!/bin/sh
sc-hsm-tool --initialize --so-pin 5762188000000000 --pin 648219; true
