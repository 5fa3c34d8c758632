package pki

// RequestMax is the longest request that is read.
const RequestMax = requestMax
