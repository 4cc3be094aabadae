"""Data sets: conversion, decoded image stores, batches and augmentation."""
