package com.example;

void main() {
    IO.println("fresh");
}
