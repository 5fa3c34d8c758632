#!/bin/sh
pkcs11-tool --login --pin 648219 --list-objects
