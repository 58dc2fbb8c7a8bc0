import express from "express";

express().get("/", (_, res) => res.send("tick")).listen(3000);
