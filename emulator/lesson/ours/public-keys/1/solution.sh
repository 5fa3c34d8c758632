#!/bin/sh
sc-hsm-tool --initialize --so-pin 3537363231383830 --pin 648219 --public-key-auth 3 --required-pub-keys 2
