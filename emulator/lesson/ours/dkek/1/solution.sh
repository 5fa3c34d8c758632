#!/bin/sh
sc-hsm-tool --reader 0 --initialize --so-pin 3537363231383830 --pin 648219 --dkek-shares 2
