#!/bin/sh
./wages; true
