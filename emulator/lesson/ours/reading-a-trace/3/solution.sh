#!/bin/sh
echo 648219 > pin
sed -i 's/--id 01/--id 10/' wages
./wages
