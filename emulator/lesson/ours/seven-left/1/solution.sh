#!/bin/sh
sc-hsm-tool
