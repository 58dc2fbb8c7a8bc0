from setuptools import setup

setup(name="brave", version="0.1.0")
