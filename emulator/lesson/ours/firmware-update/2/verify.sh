#!/bin/sh
hsmemu lesson expect --card lab running.ejected=false state=no-application --seen command=SELECT,sw=6A82
