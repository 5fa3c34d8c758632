#!/bin/sh
hsmemu lesson expect --card lab state=operational
