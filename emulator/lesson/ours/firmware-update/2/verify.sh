#!/bin/sh
hsmemu lesson expect --card lab running.ejected=false --seen command=SELECT,sw=6A82
