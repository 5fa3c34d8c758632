package vsmartcard

var Numeric = numeric
