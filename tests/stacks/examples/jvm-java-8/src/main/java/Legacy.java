class Legacy {
}
