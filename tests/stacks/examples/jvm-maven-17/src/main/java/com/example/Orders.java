package com.example;

public record Orders(int count) {
}
